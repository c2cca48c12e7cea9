"""Scripts that made the weights in `tcja_deploy/data`; not installed."""
