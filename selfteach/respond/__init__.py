"""The response step: k samples an instruction, shown examples as `context` says, accepted by rule or by agreement among themselves.

`Responder` samples from a metered student (the frozen starting checkpoint, or another local model as an expert) and keeps within a bound;
`ExpertResponder` asks any `TextModel`. Both choose examples (shots), refuse faulty replies (faults) and judge the rest (judge) alike.
"""
