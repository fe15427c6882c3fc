"""Questions about a method that users ask of their own tissue, each answered on leak-proof folds."""
