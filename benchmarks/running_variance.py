"""What either rule for the running variance costs in training, in the framework that is named: a line of JSON. ``run.py`` calls this."""

from __future__ import annotations

from importlib import import_module

from measure import Case, asked, compared, in_turn, say

from resnet_spec import build, loads

RULES = ("unbiased", "biased")
BATCH = 8


def main() -> None:
    options = asked()
    framework, rounds = options.model, 2 * options.rounds
    against = import_module(f"against_{framework}")
    models = {
        rule: build(
            loads(f"{{name: ruled, extends: resnet18, defaults: {{batch_norm: {{variance: {rule}}}}}}}"),
            backend=framework,
        )
        for rule in RULES
    }
    x = against.images(BATCH)
    seconds = in_turn({rule: against.trained(model, x) for rule, model in models.items()}, rounds)
    say(
        [
            compared(
                seconds, "unbiased", "biased", Case(framework, "resnet18", BATCH, "training step, variance: unbiased")
            )
        ]
    )


if __name__ == "__main__":
    main()
