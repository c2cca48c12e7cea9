"""From counted work to energy: conventions, prices and estimates."""
