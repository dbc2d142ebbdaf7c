"""What networks at a θ do: averages, landscapes, search, few labels."""
