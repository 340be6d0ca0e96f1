"""How good a picture is: scores by attribute prompts, by heads trained on ratings, and by measures of pixels."""
