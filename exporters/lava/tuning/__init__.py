"""Fine-tuning of the float network with the exporter's rounding in the loop."""
