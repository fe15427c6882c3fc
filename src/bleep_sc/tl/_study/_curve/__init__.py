"""The parts of a learning curve: nested subsets, their scores, the law that is fitted, and what it forecasts."""
