"""The report of a run of the course as one HTML page that needs nothing beside it."""

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aigc_lib.teaching.course import Report, Result

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>The course: {verdict}</title>
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
  body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8886; vertical-align: top; }}
  .number {{ text-align: right; font-variant-numeric: tabular-nums; }}
  .failed {{ font-weight: bold; }}
  code {{ overflow-wrap: anywhere; }}
</style>
<h1>{verdict}</h1>
<p>Profile <b>{profile}</b>, seed {seed}, device {device}, {jobs} at a time; {versions}.
The executed notebooks lie beside this page.</p>
<table>
<thead>
<tr><th>Chapter<th>Result<th class="number">Minutes<th class="number">Peak memory, GB<th class="number">Checks passed
</thead>
<tbody>
{rows}
</tbody>
<tfoot><tr><th>All<td><td class="number">{minutes:.2f}<td class="number">{memory:.2f}<td class="number">{checks}</tfoot>
</table>
</html>
"""


def to_html(report: "Report") -> str:
    """The page; everything that comes from notebooks is escaped."""
    return _PAGE.format(
        verdict=f"{report.n_passed} of {len(report.results)} chapters passed",
        profile=escape(report.profile),
        seed=report.seed,
        device=escape(report.device),
        jobs=report.jobs,
        versions=", ".join(f"{name} {version}" for name, version in report.versions.items()),
        rows="\n".join(map(_row, report.results)),
        minutes=sum(result.minutes for result in report.results),
        memory=max((result.peak_memory_gb for result in report.results), default=0.0),
        checks=sum(result.checks for result in report.results),
    )


def _row(result: "Result") -> str:
    row = (
        f'<tr><td>{escape(result.title)}<td class="{result.status}">{result.status}'
        f'<td class="number">{result.minutes:.2f}<td class="number">{result.peak_memory_gb:.2f}'
        f'<td class="number">{result.checks}'
    )
    if not result.error:
        return row
    return f'{row}\n<tr><td colspan="5">cell <code>{escape(result.cell)}</code>: <code>{escape(result.error)}</code>'
