"""The user's side: processes, descriptors and open files, drivers with the VFIO groups they make, and viability.

What may not come in: rules of domains or of mappings. A call is looked up here and carried out below.
"""
