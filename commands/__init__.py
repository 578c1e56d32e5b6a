"""What the commands of app.py do; app.py parses, calls and prints."""
