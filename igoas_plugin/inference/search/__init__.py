"""Search for a person in a folder of crops: descriptors in one file, answers as text, JSON or an HTML page."""
