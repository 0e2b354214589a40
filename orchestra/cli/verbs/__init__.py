"""One module per verb: options, one service call, output."""
