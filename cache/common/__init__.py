"""What every package needs: errors, quoting, atomic files, hashing, media types, options of commands."""
