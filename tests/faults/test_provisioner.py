"""What is a provisioner's own: the defects that the oracle must see beside the one that every kind can have."""

from pathlib import Path

import pytest

from jitaccess.broker.issue import Opened
from jitaccess.broker.rotate import rotate
from tests.support.cutting import Loss, Mode
from tests.support.mortal import give_back, open_one
from tests.support.webhook_drill import WebhookDrill


@pytest.mark.covers("R50", "R51")
@pytest.mark.parametrize("away", [True, False], ids=["away", "lost request"])
def test_the_oracle_sees_a_broker_that_takes_an_error_for_an_end(
    webhook: WebhookDrill, tmp_path: Path, away: bool
) -> None:
    run = webhook.begin(tmp_path / "run")
    world = run.world(defect="shrugs")
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    give_back(world, opened)
    if away:
        webhook.proxy.become(Mode.DOWN)
    else:
        webhook.proxy.arm(b"access.clean", Loss.BEFORE)
    world.sweep()
    assert any("its lease is REVOKED" in line for line in run.tracked())
    world.close()


@pytest.mark.covers("R52")
def test_the_oracle_sees_a_key_that_was_not_written_ahead(webhook: WebhookDrill, tmp_path: Path) -> None:
    run = webhook.begin(tmp_path / "run")
    world = run.world(defect="forgets")
    rotate(world.broker, "ledger")
    world.close()
    assert run.secret_wrong(settled=False) == ["no secret of the broker's opens the target"]
