"""Settings: what each option is called, where its value comes from, and how it is checked.

May import remote_apis; everything else of the server may import it.
"""
