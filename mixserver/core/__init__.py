"""What every other package needs: errors, units, arrays, frames, files and processes."""
