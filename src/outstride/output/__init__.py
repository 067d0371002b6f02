"""What is printed and written: tables as text and HTML, files that are whole or not there."""
