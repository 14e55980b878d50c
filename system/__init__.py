"""Operating system and hardware: errors, files, devices, memory, terminal."""
