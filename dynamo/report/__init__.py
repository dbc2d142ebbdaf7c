"""Results for people: pictures, tables, pages. Nothing is computed here."""
