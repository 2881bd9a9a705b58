"""What a crash left on a host or in the object store: found, explained, and removed when nobody needs it any more.

A host never decides by itself that a job is over. It looks (`leftovers`, `frozen`, `firewall`), asks the controller
about exactly the jobs, workloads and containers that it came across (`referee`), looks again, and removes what the
answer covers (`housekeeper`, `judging`). What has no job must have lain about for a while. Silence removes nothing.
"""
