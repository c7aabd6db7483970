// The page's style sheet: light and dark, phone to desktop, no script, nothing from the network.
#pragma once

namespace schatten {

inline constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d7dce1; --paper: #fff; --tint: #f4f6f8;
  --good: #1a7f37; --none: #7a5b00;
  --c0: #0b63c5; --c1: #c2410c; --c2: #0f7a4d; --c3: #8a2fbf; --c4: #a16207; --c5: #be185d; --c6: #0e7490; --c7: #52525b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b0; --line: #343b44; --paper: #12161b; --tint: #1b2128;
  --good: #4cc26f; --none: #d9a928;
  --c0: #6cb2ff; --c1: #ff9a62; --c2: #4fd19a; --c3: #cf9bff; --c4: #e0b13c; --c5: #ff86b6; --c6: #4cc9dd; --c7: #b4b4bd; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 24px 20px 64px; max-width: 1120px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 1.15rem; margin: 40px 0 10px; }
h3 { font-size: 1rem; margin: 0 0 6px; }
p { margin: 6px 0; }
.soft, figcaption { color: var(--soft); font-size: 0.875rem; }
.verdict { margin: 20px 0 0; padding: 0; list-style: none; }
.verdict li { padding: 12px 16px; margin: 8px 0; background: var(--tint); border-left: 5px solid var(--none); border-radius: 4px; }
.verdict li.decided { border-color: var(--good); }
.verdict b { display: block; font-size: 0.75rem; letter-spacing: 0.05em; text-transform: uppercase; color: var(--none); }
.verdict .decided b { color: var(--good); }
.notes { margin: 12px 0; padding-left: 20px; color: var(--soft); font-size: 0.9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 12em; }
.swatch { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 2px; margin-right: 0.5em; background: currentColor; }
.figures { display: grid; gap: 34px 40px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
.panels { display: grid; gap: 10px 16px; }
.multiples .panels { grid-template-columns: repeat(auto-fit, minmax(225px, 1fr)); }
.panels h4 { margin: 0; font-size: 0.82rem; font-weight: 600; }
.panels > div > svg { display: block; width: 100%; height: auto; max-width: 560px; overflow: visible; }
.multiples .panels > div > svg { max-width: 300px; }
@media (max-width: 600px) { body { padding: 16px 14px 48px; } .multiples .panels { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); } }
details { margin-top: 6px; font-size: 0.875rem; }
summary { cursor: pointer; color: var(--soft); }
details .scroll { max-height: 320px; overflow: auto; margin-top: 8px; }
a { color: var(--c0); }
pre, code { font: 0.85rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--tint); padding: 10px 12px; border-radius: 4px; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--soft); }
svg .series { font-weight: 600; fill: var(--c); }
svg .mid { text-anchor: middle; }
svg .end { text-anchor: end; }
.grid { stroke: var(--line); stroke-width: 0.7; }
.axis { stroke: var(--soft); stroke-width: 0.8; }
.zero { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; }
.line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
.thick { stroke-width: 4; stroke-opacity: 0.55; stroke-linecap: round; }
.dashed { stroke-dasharray: 4 3; stroke-width: 1.2; stroke-opacity: 0.75; }
.early { stroke-opacity: 0.35; stroke-width: 1.3; }
.middle { stroke-opacity: 0.65; stroke-width: 1.5; }
.band { fill: var(--c); fill-opacity: 0.16; stroke: none; }
.dot { fill: var(--c); }
.ring { fill: none; stroke: var(--c); stroke-width: 2; }
.fill { fill: var(--c); }
.grey0 { fill: var(--soft); fill-opacity: 0.35; }
.grey1 { fill: var(--soft); fill-opacity: 0.6; }
.grey2 { fill: var(--soft); fill-opacity: 0.85; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
.swatch { color: var(--c); }
@media print { details { display: none; } body { max-width: none; } }
)css";

}  // namespace schatten
