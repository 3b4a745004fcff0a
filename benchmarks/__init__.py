"""Side by side with peers: one command each (`python -m benchmarks.<name>`); `results/` holds what they printed."""
