"""Turn a model of a framework, or a file of one, into a spec: trace, reduce, recover, prove."""
