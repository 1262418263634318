//! Reports in a browser: nothing to complain about on the console, no scrolling sideways, text that
//! can be read, in light and in dark.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::skip;
use crate::fixture::Fixture;
use crate::{comparison, page};

/// Measures the page in a frame, with all details open: the width of what is in it, the least
/// contrast of a text (WCAG 2) and where that is, how bright the ground is.
const MEASURE: &str = r#"
function luminance([r, g, b]) {
  const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
}
function parts(color) {
  const found = (color.match(/[\d.]+/g) || []).map(Number);
  return found.length == 3 ? [...found, 1] : found;
}
function measure(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  page.querySelectorAll('details').forEach(d => d.open = true);
  const style = e => view.getComputedStyle(e);
  const ground = e => {
    while (e && parts(style(e).backgroundColor)[3] < 1) e = e.parentElement;
    return parts(style(e || page.body).backgroundColor);
  };
  const name = e => e.getAttribute('class') || '';
  let least = 99, where = '', texts = 0;
  for (const e of page.body.querySelectorAll('*')) {
    const written = [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim());
    if (e.tagName == 'title' || !written) continue;
    const color = parts(e instanceof view.SVGElement ? style(e).fill : style(e).color);
    const [a, b] = [luminance(color), luminance(ground(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    texts += 1;
    if (contrast < least)
      [least, where] = [contrast, e.tagName + '.' + name(e) + ' in .' + name(e.parentElement)];
  }
  return { frame: frame.clientWidth, width: page.documentElement.scrollWidth,
           view: view.innerWidth, least, where, texts,
           ground: luminance(parts(style(page.body).backgroundColor)) };
}
addEventListener('load', () => {
  const found = [...document.querySelectorAll('iframe')].map(measure);
  document.getElementById('found').textContent = JSON.stringify(found);
});
"#;

/// What `MEASURE` finds on `page` in frames of `widths`, and what the browser's console says;
/// `None` without a browser.
fn measured(page: &str, widths: &[u32], dark: bool) -> Option<(Vec<Value>, String)> {
    let named = std::env::var("XGBRUN_CHROMIUM").ok();
    let candidates = named.map_or_else(
        || vec!["chromium".to_owned(), "chromium-browser".to_owned()],
        |name| vec![name],
    );
    let there = |name: &String| {
        Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    let Some(browser) = candidates.into_iter().find(there) else {
        skip("there is no `chromium` (XGBRUN_CHROMIUM names another)");
        return None;
    };
    let home = tempfile::tempdir().unwrap();
    let source = page.replace('&', "&amp;").replace('"', "&quot;");
    let frame = |width: &u32| {
        format!(
            "<iframe style=\"width:{width}px;height:900px;border:0\" srcdoc=\"{source}\"></iframe>"
        )
    };
    let frames: String = widths.iter().map(frame).collect();
    let head = "<!DOCTYPE html><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light \
                dark\">";
    let file = home.path().join("probe.html");
    fs::write(&file, format!("{head}<pre id=\"found\"></pre>{frames}<script>{MEASURE}</script>"))
        .unwrap();
    let output = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            "--dump-dom",
        ])
        .arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }))
        .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let (dom, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let found = dom
        .split_once("<pre id=\"found\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .map(|(found, _)| found);
    let found = serde_json::from_str(found.unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {found:?}\n{log}"));
    Some((found, log.lines().filter(|l| l.contains("CONSOLE")).collect::<Vec<_>>().join("\n")))
}

fn contrast(found: &Value) -> f64 {
    found["least"].as_f64().unwrap()
}

/// Whether something sticks out of the page at the right.
fn sticks_out(found: &Value) -> bool {
    found["width"].as_f64() > found["view"].as_f64()
}

/// A run with much of everything: long names, several tasks, a notice.
fn rich() -> Fixture {
    let mut fixture = Fixture { tail: "{".into(), ..Fixture::default() };
    let long = "a-name-of-many-letters-".repeat(8);
    fixture.manifest["parameters"]["model"] = long.clone().into();
    fixture.manifest["recipe"] = format!("{long}.rhai").into();
    fixture.recipe = format!("let {} = 1;\n", "x".repeat(300)).repeat(40);
    let last = fixture.lines.len() - 1;
    fixture.lines[last]["metrics"]["tasks"] =
        json!({ long: { "accuracy": 0.5 }, "piqa": { "accuracy": 0.5, "items": 1000 } });
    fixture
}

#[test]
fn a_report_fits_and_can_be_read_in_light_and_dark() {
    let pages = [
        page(&Fixture::default()),
        page(&rich()),
        comparison(&[("one", &Fixture::default()), (&"long-".repeat(30), &rich())]),
    ];
    for (i, page) in pages.iter().enumerate() {
        for dark in [false, true] {
            let Some((found, console)) = measured(page, &[1280, 400], dark) else { return };
            assert_eq!(console, "", "page {i}");
            for (found, width) in found.iter().zip([1280, 400]) {
                assert_eq!(found["frame"], width);
                assert!(found["texts"].as_u64() > Some(200), "{found}");
                assert!(!sticks_out(found), "page {i}: {found}");
                assert!(contrast(found) >= 4.5, "page {i}, dark {dark}: {found}");
                assert_eq!(found["ground"].as_f64().unwrap() < 0.2, dark, "page {i}: {found}");
            }
        }
    }
}

#[test]
fn the_measurements_can_fail() {
    let page = page(&Fixture::default());
    let wide = page.replace("<main>", "<main><svg width=\"2000\" height=\"5\"></svg>");
    let pale = page.replace("--muted: #515c6b", "--muted: #9aa4b0");
    let loud = page.replace("</main>", "</main><img src=\"http://127.0.0.1:1/x.png\">");
    let Some((found, _)) = measured(&wide, &[1280, 400], false) else { return };
    assert!(found.iter().all(sticks_out), "{found:?}");
    let Some((found, _)) = measured(&pale, &[1280], false) else { return };
    assert!(contrast(&found[0]) < 4.5, "{found:?}");
    // The page's own policy forbids what is from elsewhere.
    let Some((_, console)) = measured(&loud, &[1280], false) else { return };
    assert!(console.contains("Content Security Policy"), "{console}");
}
