"""Images and what is known about them: found, labelled, decoded to RGB pixels."""
