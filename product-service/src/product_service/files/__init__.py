"""The file formats of the import and the export."""
