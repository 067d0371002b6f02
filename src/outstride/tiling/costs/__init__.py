"""What boxes take, in bytes and in time, before anything is made."""
