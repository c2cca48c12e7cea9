"""Window programs: attention of any kind in integers."""
