"""Where tissue lies on a slide: found by colour, or drawn by somebody."""
