"""What people read: numbers, sentences, figures, tables and the site. Imports no room."""
