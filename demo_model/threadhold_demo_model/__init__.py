"""Contains the demo model's file. Threadhold finds it by the distribution's metadata and imports nothing."""
