"""`orchestra tui --web`. No module of the terminal monitor may import it: it loads a web server."""
