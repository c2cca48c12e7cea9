"""What a reader sees: the report and all that goes into it, and its forms."""
