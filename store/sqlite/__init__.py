"""How is it remembered in one SQLite file?"""
