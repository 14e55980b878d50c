"""The machine below the program: errors, files, devices, memory, terminal."""
