"""Evidence that outlives the service: signed registrations and results of audits, and a hash-chained log.

Nothing here needs torch, a service or a network. `auditcore verify` and `auditcore verify-log` run on this package.
"""
