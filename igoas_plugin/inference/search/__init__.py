"""Search of a person in a folder of crops: the folder's descriptors in one file; answers as text, JSON or a page."""
