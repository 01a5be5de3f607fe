"""The folder of the demo model's file. Threadhold finds the file by the distribution's metadata and imports nothing."""
