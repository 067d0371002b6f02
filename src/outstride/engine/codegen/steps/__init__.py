"""What is done to a value on its way in or out: torch's operators, one operation on a value each."""
