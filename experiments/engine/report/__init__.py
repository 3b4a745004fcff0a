"""What an experiment shows: a live view while it runs, a summary as JSON, a report as text."""
