// What html-validate says about a page as it came over the wire.
import { HtmlValidate } from "html-validate";

const validator = new HtmlValidate({
  extends: ["html-validate:recommended"],
  rules: {
    // Decisions of these pages: bytes are counted, styles and scripts are named by hash, one page is one response.
    "doctype-style": "off",
    "void-style": "off",
    "no-trailing-whitespace": "off",
    "no-inline-style": "error",
    "long-title": "off",
    // Without JavaScript a page refreshes itself; a link on it stops that (WCAG 2.2.1).
    "meta-refresh": "off",
    "require-sri": "off",
    "attribute-boolean-style": "off",
    "attribute-empty-style": "off",
    "no-implicit-button-type": "off",
    // A role says it to older screen readers as well.
    "no-redundant-role": "off",
  },
});

/** Readable findings. */
export async function htmlFindings(html) {
  const report = await validator.validateString(html);
  return report.results.flatMap(({ messages }) => messages.map((m) => `${m.ruleId} at ${m.line}:${m.column}: ${m.message}`));
}
