// Shows the provider's form with the data of the page, and brings the shopper back with what came of it.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId('checkout').textContent);
  const button = byId('pay');
  const trouble = (text) => {
    byId('trouble').textContent = text;
    byId('trouble').hidden = !text;
    button.disabled = false;
  };
  const approve = (intent, status) => {
    const query = new URLSearchParams({ payment_intent: intent, redirect_status: status });
    location.replace(`${data.approveUrl}?${query}`);
  };
  // Back from the bank's page: a failed attempt may be repeated here.
  const back = new URLSearchParams(location.search);
  const [intent, status] = [back.get('payment_intent'), back.get('redirect_status')];
  if (intent && status && status !== 'failed') {
    approve(intent, status);
    return;
  }
  history.replaceState(null, '', location.pathname);
  if (typeof Stripe !== 'function') {
    trouble(data.text.notLoaded);
    button.addEventListener('click', () => location.reload());
    return;
  }
  if (status) trouble(data.text.failed);
  const stripe = Stripe(data.publishableKey, { locale: data.lang });
  const elements = stripe.elements({ clientSecret: data.clientSecret });
  elements.create('payment').mount('#method');
  button.addEventListener('click', async () => {
    button.disabled = true;
    byId('trouble').hidden = true;
    const result = await stripe
      .confirmPayment({ elements, confirmParams: { return_url: data.returnUrl }, redirect: 'if_required' })
      .catch((error) => ({ error }));
    const intent = result.paymentIntent;
    if (intent && ['requires_capture', 'processing', 'succeeded'].includes(intent.status)) {
      approve(intent.id, intent.status === 'processing' ? 'processing' : 'succeeded');
      return;
    }
    trouble((result.error && result.error.message) || data.text.notOpened);
  });
  button.disabled = false;
})();
