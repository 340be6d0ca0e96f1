"""How good a picture is: CLIP's opinion by attribute prompts, heads trained on ratings, and measures of pixels."""
