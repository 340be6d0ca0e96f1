"""What an entry is: its schema, its name, its sampling, and how it is read and written."""
