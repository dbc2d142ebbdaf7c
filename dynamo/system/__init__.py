"""Files, locks, devices and processes; no word of networks in here."""
