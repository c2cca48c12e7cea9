"""From counted work to energy: the conventions, their prices, and the estimate."""
