// Before the terminal: the spent token leaves the address bar and the history, and nothing that
// stands on the screen (a URL in a log) opens a window.
history.replaceState(null, "", "/");
window.open = () => null;
