# Two commands do all on a fresh Debian machine: `make matrix` and `make test`.
.PHONY: matrix test bench setup

matrix: setup
	.venv/bin/harness run goroutines threads --trace threads/lock-exit-churn

test: setup
	@python3 -m harness.doctor --install --tests
	@$(MAKE) -s .venv/stamp-test
	.venv/bin/tox run -q

# What is missing comes by apt, which removes nothing; the stamp says that the environment fits pyproject.toml. One whose
# Python is gone is made anew.
setup:
	@command -v python3 >/dev/null || { \
	  root=$$( [ $$(id -u) = 0 ] || echo sudo ); \
	  $$root apt-get update -q && $$root apt-get install -q -y --no-remove python3 python3-venv; }
	@python3 -m harness.doctor --install
	@.venv/bin/python -c "" 2>/dev/null || rm -f .venv/stamp .venv/stamp-test
	@$(MAKE) -s .venv/stamp

.venv/stamp: pyproject.toml
	python3 -m venv $$( .venv/bin/python -c "" 2>/dev/null || echo --clear ) .venv
	.venv/bin/pip install -q --disable-pip-version-check -e .
	@touch $@

.venv/stamp-test: .venv/stamp
	.venv/bin/pip install -q --disable-pip-version-check -e ".[test]"
	@touch $@

# Ratios measured side by side; takes about half an hour. Needs Debian's dejagnu besides what setup installs.
bench: setup
	@$(MAKE) -s .venv/stamp-test
	.venv/bin/python -m tools.bench
