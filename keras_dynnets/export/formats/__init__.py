"""The formats of exported files, a module each."""
