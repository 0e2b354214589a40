"""What can be looked at beside the runs table: one module per tab."""
