"""A restore that copies no memory: the program runs at once, and each page comes when it is touched, or soon.

`server.py` is the process that has the pages; `userfault.py` is the kernel's side of it, `spans.py` what has not come
yet, `images.py` where it lies, `journal.py` what must survive the server's death, `twins.py` why that is harmless.
"""
