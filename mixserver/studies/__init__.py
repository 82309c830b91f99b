"""Studies: one observable in several arms (all-expensive, all-cheap, mixed), side by side.

A study is a list of independent tasks (`study`), each an arm of a case (`arms`) that moves with
i-PI (`md`), run in processes of their own (`runner`). Their results become estimates with errors
that know correlation (`statistics`, `diffusion`), a `table` and a `plot`. `models` lets a user put
other models in place of those of the case.
"""
