"""Features that others have made become entries: `rules.RULES` lists where from, `run.Import` does it."""
