"""Networks over whole scenes: scored, and what that leaves behind."""
