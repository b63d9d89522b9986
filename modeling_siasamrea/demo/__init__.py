"""The page in the browser, and what it draws."""
